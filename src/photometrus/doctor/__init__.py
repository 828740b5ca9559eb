"""What photometrus needs, looked at before it is needed; and how to mend what is wrong."""
