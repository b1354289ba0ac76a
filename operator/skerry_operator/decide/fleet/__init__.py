"""The units of one deployment: where they sit, what they have, what they are told."""
