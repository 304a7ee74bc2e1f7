"""Finstage Market Data: news, daily prices and technical signals over HTTP."""
