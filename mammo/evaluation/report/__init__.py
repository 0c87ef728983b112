"""Reports: turn metrics and pictures into figures and self-contained HTML pages."""
