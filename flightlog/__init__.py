"""flightlog: flight recorder and regression gate for tool-calling AI agents."""
