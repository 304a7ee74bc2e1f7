"""The text of SQL: which statements are the same pattern, which tables do they touch."""
