"""What Schemathesis cannot know of the service: real ids, so that requests come further than "there is no such thing".

The world that the test made is in the file `TIDINGS_CONTRACT_WORLD`: ids by the first word of their address. Ids that
answers tell are added to it. Of every four requests one keeps what was drawn. Which ids are taken follows from what
was drawn and from nothing else, so a seed asks the same. What was answered is counted by operation and status, and
written into `TIDINGS_CONTRACT_ANSWERS` when the run ends.
"""

import atexit
import collections
import json
import os
import zlib

import schemathesis

with open(os.environ["TIDINGS_CONTRACT_WORLD"], encoding="utf-8") as file:
    WORLD = json.load(file)
# The key that the run itself calls with: whoever revokes it learns nothing more.
OWN_KEY = WORLD.pop("own_key")
KEPT = 12
ANSWERS = collections.Counter()


def draw(given, among):
    """One of these, or none for what shall stay as it was drawn."""
    number = zlib.crc32(repr(given).encode("utf-8", "backslashreplace"))
    return None if number % 4 == 0 or not among else among[(number // 4) % len(among)]


@schemathesis.hook
def before_call(context, case, kwargs):
    words = case.operation.path.split("/")
    parameters = case.path_parameters or {}
    for name in parameters:
        word = words[words.index("{%s}" % name) - 1] if "{%s}" % name in words else None
        known = {"user": "users", "role": "roles", "tenant": "tenants"}.get(name, word)
        drawn = draw(parameters[name], WORLD.get(known))
        if drawn is not None:
            parameters[name] = drawn
        if parameters[name] == OWN_KEY:
            parameters[name] = "key_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    # What is drawn for these is hardly ever what they may hold, and the answer is then about nothing else.
    for name in ("tidings-at-least", "idempotency-key"):
        for sent in (case.headers, kwargs.get("headers")):
            if sent and name in sent and draw(sent[name], [1]):
                del sent[name]
    body = case.body
    if isinstance(body, dict):
        # Webhooks of a test lead nowhere, whatever address was drawn.
        if isinstance(body.get("url"), str) and draw(body["url"], [1]):
            body["url"] = "http://127.0.0.1:1/"
        for name, known in [("user", "users"), ("endpoint", "endpoints"), ("parent", "teams"), ("into", "teams")]:
            if isinstance(body.get(name), str):
                drawn = draw(body[name], WORLD.get(known))
                body[name] = body[name] if drawn is None else drawn


@schemathesis.hook
def after_call(context, case, response):
    operation = "%s %s" % (case.operation.method.upper(), case.operation.path)
    ANSWERS["%s %s" % (response.status_code, operation)] += 1
    if response.status_code not in (201, 202) or case.method.upper() != "POST":
        return
    try:
        made = json.loads(response.content)["id"]
    except (ValueError, TypeError, KeyError):
        return
    known = WORLD.setdefault(case.operation.path.split("/")[2], [])
    if isinstance(made, str) and made not in known:
        known.append(made)
        del known[:-KEPT]


@atexit.register
def tell():
    with open(os.environ["TIDINGS_CONTRACT_ANSWERS"], "w", encoding="utf-8") as file:
        json.dump(ANSWERS, file, indent=1, sort_keys=True)
