"""``report.html``, the summary page of a run."""
