"""What the runs on one store share: kill switch, breakers, tenants' budgets, approvals."""
