"""Rating: a rate card and a quantity become detailed lines; `rate.py` alone knows the order."""
