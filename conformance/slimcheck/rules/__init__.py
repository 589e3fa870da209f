"""One module per chapter of the requirement catalogue; importing it registers its rules."""
