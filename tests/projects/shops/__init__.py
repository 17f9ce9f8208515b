"""A regression whose features are one query in SQL: how much does a shop sell on a day?"""
