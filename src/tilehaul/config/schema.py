"""The configuration file's JSON schema, made from the settings classes.

`python -m tilehaul.config.schema` prints it; `docs/tilehaul.schema.json` is that output.
"""

import json

import msgspec

from tilehaul.config.settings import Settings


def schema_text() -> str:
    """The JSON schema (draft 2020-12) as indented text with a final newline."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tilehaul.yaml",
        **msgspec.json.schema(Settings),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
