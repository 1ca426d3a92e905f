"""Which pipeline can Tickstorm be run against out of the box?  Stand-ins for TickStockApp (gateway) and TickStockPL
(producer).

Nothing here imports the load tool: the target must be something that a load tool meets from outside.
"""

__version__ = "0.1.0"
