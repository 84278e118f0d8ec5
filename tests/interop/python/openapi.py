"""Holds a server's OpenAPI document against what the server answered.

Reads {"document": …, "exchanges": [{method, path, request, status, content_type, headers, body}, …]} from standard input. Each
exchange has to be an operation of the document, with its status, type of content, headers and a body of its schema, and
nothing in the body may be missing from the schema. In the end every operation must have succeeded once.
"""

import copy
import json
import re
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

METHODS = ["get", "put", "post", "patch", "delete"]


def strict(schema):
    """The same, with no property beside those that are written down."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def main():
    given = json.load(sys.stdin)
    document, exchanges = given["document"], given["exchanges"]
    validate(document)
    components = document["components"]
    schemas = {"components": {"schemas": strict(copy.deepcopy(components["schemas"]))}}
    problems, succeeded = [], set()

    def check(what, value, content, content_type):
        media = content.get(content_type)
        if media is None:
            return problems.append(f"{what}: {content_type} is not in the document")
        validator = Draft202012Validator({**media["schema"], **schemas}, format_checker=FormatChecker())
        for error in validator.iter_errors(value):
            problems.append(f"{what}: {error.json_path}: {error.message[:300]}")

    templates = [
        (path, re.compile("^" + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$")) for path in document["paths"]
    ]
    for exchange in exchanges:
        method, path = exchange["method"].lower(), exchange["path"].split("?")[0]
        what = f"{method.upper()} {exchange['path']} {exchange['status']}"
        matching = [template for template, pattern in templates if pattern.match(path)]
        # The one with the fewest parameters is the one that a router takes.
        template = min(matching, key=lambda template: template.count("{"), default=None)
        operation = document["paths"].get(template, {}).get(method)
        if operation is None:
            problems.append(f"{what}: not in the document")
            continue
        names = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        asked = {part.split("=")[0] for part in exchange["path"].partition("?")[2].split("&") if part}
        if asked - names:
            problems.append(f"{what}: parameters {asked - names} are not in the document")
        response = operation["responses"].get(str(exchange["status"]))
        if response is None:
            problems.append(f"{what}: the status is not in the document")
            continue
        if "$ref" in response:
            response = components["responses"][response["$ref"].rsplit("/", 1)[1]]
        for header in response.get("headers", {}):
            # Only where the server knows how long to wait.
            if header != "Retry-After" and header.lower() not in exchange["headers"]:
                problems.append(f"{what}: no {header}")
        if response.get("content"):
            check(what, exchange["body"], response["content"], exchange["content_type"])
        elif exchange["body"] is not None:
            problems.append(f"{what}: a body, though the document has none")
        if exchange["status"] < 300:
            succeeded.add((template, method))
            if "requestBody" in operation:
                check(f"{what} (request)", exchange["request"], operation["requestBody"]["content"], "application/json")
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item and (path, method) not in succeeded:
                problems.append(f"{method.upper()} {path}: never succeeded here")
    print(f"{len(exchanges)} exchanges, {len(succeeded)} operations, {len(problems)} problems")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


sys.exit(main())
