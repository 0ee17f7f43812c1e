"""Asynchronous methods, and Shadowheart, for workers of unequal speed."""
