"""What an exported folder holds beside its model: files that work without this package."""
