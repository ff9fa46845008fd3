import json

import pytest


def test_the_description_names_every_route_and_only_those(served):
    document = served.ask("GET", "/v1/openapi.json", token="").json
    assert document["openapi"] == "3.1.0"
    routes = served.node.services["rest"].service._gate.router.routes
    described = {(method.upper(), path) for path, row in document["paths"].items() for method in row}
    assert described == {(route.method, route.path) for route in routes if route.path.startswith("/v1")}
    has_search = hasattr(type(served.node.volume), "search")
    assert ("/v1/search" in document["paths"]) == has_search
    names = [row["operationId"] for each in document["paths"].values() for row in each.values()]
    assert len(names) == len(set(names))
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


# What would end or rewrite the node under test, or is made for streams that a generator of requests does not know.
KEPT_OUT = "/v1/verbs/{verb}"


def test_schemathesis_finds_nothing(serve):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    served = serve()
    schema = schemathesis.openapi.from_dict(served.ask("GET", "/v1/openapi.json", token="").json)
    schema.config.update(base_url=served.url)
    served.node.volume.write_text("/a/b.txt", "content")
    # What a schema cannot say (a file that must be there, an operation's own arguments) is refused with 400, too.
    beyond = [positive_data_acceptance]
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == KEPT_OUT:
            continue

        @given(case=operation.as_strategy())
        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck),
                  phases=[Phase.generate, Phase.explicit])  # fmt: skip
        def probe(case):
            case.call_and_validate(headers={"Authorization": f"Bearer {served.token}"}, excluded_checks=beyond)

        probe()
    assert served.ask("GET", "/v1/files").status == 200
    assert "Traceback" not in served.log
