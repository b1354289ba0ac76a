"""Generated from protocol/oip.proto by hack/generate_protocol.py; never edited."""
