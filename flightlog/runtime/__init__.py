"""The bounded agent loop: budgets, default-deny tool gateway, stop reasons."""
