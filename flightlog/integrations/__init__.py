"""Frameworks, protocols and foreign traces: all that others bring and flightlog takes in."""
