"""Offline training with torch: sample, fit, export, calibrate, report, build."""
