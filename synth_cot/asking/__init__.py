"""How teachers that are models are asked: requests named by content, a ledger of what was answered, a purse, patience."""
