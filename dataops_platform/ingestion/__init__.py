"""Getting data from sources into the lake."""
