"""OpenTelemetry in and out: spans of any emitter become runs, and runs become spans."""
