"""Checks the log of a run: JSON objects only, and that messages met each of the fates they can have."""

import collections
import json
import sys

with open(sys.argv[1], "rb") as log:
    lines = log.read().splitlines()
results = collections.Counter()
for line in lines:
    try:
        entry = json.loads(line)
    except ValueError:
        sys.exit(f"the log has a line that is no JSON: {line!r}")
    if not isinstance(entry, dict):
        sys.exit(f"the log has a line that is no object: {line!r}")
    if "result" in entry:
        results[entry["result"]] += 1
print(f"the log: {len(lines)} JSON objects, for /webhook " + ", ".join(f"{n} {result}" for result, n in results.most_common()))
missing = {"created", "invalid_signature", "validation_error"} - results.keys()
if missing:
    sys.exit(f"no message was {', '.join(sorted(missing))}: this run did not test much")
