"""The scaler: `signals` measures, `policy` decides (pure), `loop` acts."""
