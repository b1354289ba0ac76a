"""The rollout engine: recorded state and facts in, the next state and every unit's revision out."""
