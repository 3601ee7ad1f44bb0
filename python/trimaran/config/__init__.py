"""Settings: declared once in `model`, read by `load`, checked against each other by `check`."""
