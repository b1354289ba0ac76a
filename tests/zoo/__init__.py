"""Models of other people: what their engine answers, a pod must answer."""
