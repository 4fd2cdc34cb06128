"""What a trained model is used for: single forecasts and where they come from."""
