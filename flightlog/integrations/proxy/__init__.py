"""Between an agent and its model's API: records what passes, or answers from recordings."""
