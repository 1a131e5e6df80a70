"""Demand for rental bikes a day ahead: as `model_export.recipes.demand`, by the weather forecast."""

from model_export.recipes.demand import ahead

RECIPE = ahead("demand-day", horizon=24)
