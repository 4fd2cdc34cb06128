"""What importers and exporters share."""
