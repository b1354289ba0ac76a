"""What people are told: conditions, status, explanations, and what is wrong with a spec."""
