"""The data model: what an event is, and the protocols that carry events."""
