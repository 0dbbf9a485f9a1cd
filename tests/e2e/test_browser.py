"""A person's afternoon in headless Chromium: log in, start a DAG from its form, approve a promotion, read the drift report and the registry."""
