"""The report of an observation: one page of HTML that needs nothing but itself."""
