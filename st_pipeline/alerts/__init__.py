"""What an operator is told: rules, a book of what is open, and channels that can fail without harm."""
