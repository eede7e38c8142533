"""Determine what listed files contain, and count the skipped ones."""
