#!/usr/bin/env python3
"""Makes github-events.jsonl from the package @octokit/webhooks-examples.

    npm pack @octokit/webhooks-examples@7.6.1
    tar xzf octokit-webhooks-examples-7.6.1.tgz
    python3 make.py package/api.github.com/index.json > github-events.jsonl

One example of every event and action first, then the next ones in turn, until one of the limits is reached.
Examples with a signed link are left out, expired as it is: secret scanners would stop at it. The same package
always gives the same file.
"""

import json
import re
import sys

LINE_LIMIT = 24 * 1024
LINES_LIMIT = 200
FILE_LIMIT = 1_350_000


def event_type(name, payload):
    parts = ["github", name]
    if isinstance(payload.get("action"), str):
        parts.append(payload["action"])
    return ".".join(re.sub(r"[^a-z0-9_]+", "_", part.lower()) for part in parts)


def lines_by_type(definitions):
    """Every example that is short enough, shortest first, under its type."""
    found = {}
    for definition in definitions:
        for payload in definition["examples"]:
            kind = event_type(definition["name"], payload)
            event = {"type": kind, "data": payload}
            line = json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n"
            if len(line.encode()) <= LINE_LIMIT and "X-Amz-Signature" not in line:
                found.setdefault(kind, []).append(line)
    return {kind: sorted(set(lines), key=lambda line: (len(line), line)) for kind, lines in sorted(found.items())}


def chosen(lines):
    count = size = turn = 0
    while any(len(of_type) > turn for of_type in lines.values()):
        for of_type in lines.values():
            if len(of_type) <= turn:
                continue
            line = of_type[turn]
            if count == LINES_LIMIT or size + len(line.encode()) > FILE_LIMIT:
                return
            count += 1
            size += len(line.encode())
            yield line
        turn += 1


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        definitions = json.load(file)
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.writelines(chosen(lines_by_type(definitions)))


main()
