import os


def test_parent_and_children_each_get_their_own_replies(fs):
    contents = {f"f{i}": bytes([i]) * 100_000 for i in range(10)}
    for name, content in contents.items():
        fs.write_bytes(name, content)
    with fs.open("f1", "rb", 0) as file:
        assert file.read(2) == b"\1\1"
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                status = 1
                try:
                    for _ in range(10):
                        for name, content in contents.items():
                            assert fs.read_bytes(name) == content
                    file.close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for _ in range(10):
            for name, content in contents.items():
                assert fs.read_bytes(name) == content
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
        assert file.read(2) == b"\1\1"
