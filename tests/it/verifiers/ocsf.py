"""Validates lines of OCSF events, from stdin, against the schema that was published."""

import json
import sys
from functools import cache

import jsonschema_rs
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


@cache
def schema(version):
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))


@cache
def validator(version, class_uid, profiles):
    classes = schema(version)
    name = classes.lookup_class_name_from_uid(class_uid)
    return name, jsonschema_rs.validator_for(classes.get_class_schema(name, list(profiles)))


for line in sys.stdin:
    event = json.loads(line)
    metadata = event["metadata"]
    profiles = tuple(metadata.get("profiles", []))
    name, check = validator(metadata["version"], event["class_uid"], profiles)
    problems = [f"{'/'.join(map(str, it.instance_path))}: {it.message}" for it in check.iter_errors(event)]
    print(json.dumps({"class": name, "problems": problems}))
