"""Measurements of the servers: app server engines, gateway, scaler."""
