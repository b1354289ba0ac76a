"""Pure decisions: facts in, values out. No IO, no clock, no hidden default."""
