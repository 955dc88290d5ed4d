"""The interactive shell of `flightlog sql`."""
