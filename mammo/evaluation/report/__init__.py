"""Reports: metrics and pictures go in; figures and self-contained HTML pages come out."""
