"""Redaction for captures: before anything of a pod reaches the disk, its secrets become keyed tokens.

    redactor = Redactor(rules=read_rules(text))
    redactor.learn_document(environ_answer)           # first: what is a secret by its place
    redactor.learn_file("/var/run/secrets/...", data)
    redactor.learn(token_in_use, "kubeconfig")
    answer = redactor.document(plain_answer, "target/environ.json")
    stream = redactor.stream("files/etc/app.conf")    # then `feed(bytes)` and `finish()`, both return bytes
    manifest["redactions"] = redactor.report()

A secret becomes `[REDACTED:class:abcd1234]`: the same digest for the same secret, from a key that is not in
the bundle. What a place gives away (the environment, Secrets, pull secrets, arguments) is found everywhere
else in all its encodings; what only looks like a secret is found as it is. Names of members that come from
the pod go through `text` as well. docs/redaction.md says what is found and what is not.
"""

from kdebug.capture.redact.redactor import Redactor
from kdebug.capture.redact.rules import Rule, read_rules
from kdebug.capture.redact.stream import RedactingStream

__all__ = ["RedactingStream", "Redactor", "Rule", "read_rules"]
