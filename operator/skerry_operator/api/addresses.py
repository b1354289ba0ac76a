"""What `source.uri` may be: one form for each scheme."""

from __future__ import annotations

from skerry_operator.api.bounds import Bound

PVC = "pvc://"
"""How the address of a file in a volume begins; the name of its claim follows."""
_S3 = "s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[!$->A-~]+"
_PART = "[a-z0-9]+([._-]+[a-z0-9]+)*"
_DIGEST = "@sha256:[0-9a-f]{64}"
_TAG = ":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_OCI = (
    f"oci://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?/{_PART}(/{_PART})*"
    f"({_DIGEST}|{_TAG}({_DIGEST})?)(#[!$-~]+)?"
)
_HF = "hf://[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*/[!$->A-~]+@[0-9a-f]{40}"
_PVC = f"{PVC}[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[!$->A-~]+"
_OTHERS = f"{_S3}|{_OCI}|{_HF}|{_PVC}"

ADDRESS = rf"(https?://[^\s@]+|{_OTHERS})"
"""Any character may be in an address of the web: it was so when there was no other scheme."""
ASCII_ADDRESS = f"(https?://[!-?A-~]+|{_OTHERS})"
"""The same in the characters that RFC 3986 has."""

FORMS = (
    "write https://HOST/FILE without user and password, s3://BUCKET/KEY, "
    "oci://REGISTRY/REPOSITORY@sha256:DIGEST (or :TAG), hf://ORG/REPO/FILE@COMMIT with the 40 "
    "digits of a commit, or pvc://CLAIM/FILE; what is special in a name is written as %XX"
)
"""What to write."""
_RULE = "self.matches('^{}$')".format(ADDRESS.replace("\\", "\\\\"))
SOURCE_URI = Bound(
    _RULE,
    FORMS,
    lambda _: True,  # the type's pattern says the same to all readers
    form=_RULE,
    form_message=f"no address of a file: {FORMS}",
)
"""For the address of a source."""
