"""Endcap: the recommender platform of an online shop. Start reading at `endcap.recommender`."""

__version__ = "0.1.0"
