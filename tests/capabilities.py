"""What this process may do: root in a container has some of a root's capabilities alone."""

DAC_READ_SEARCH, SYS_ADMIN, SYS_NICE = 2, 21, 23


def may(capability: int, among: str = "CapEff") -> bool:
    """Whether it has that capability; of ``CapBnd``, whether a program that it starts may have it."""
    with open("/proc/self/status") as status:
        held = next(line.split()[1] for line in status if line.startswith(f"{among}:"))
    return bool(int(held, 16) >> capability & 1)
