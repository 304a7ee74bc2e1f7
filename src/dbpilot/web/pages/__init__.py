"""The dashboard's pages: what each one asks the pilot, and how figures, words and small drawings are made for it."""
