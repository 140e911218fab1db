"""Sending, whoever it is for and wherever they are: whom (audience), what (acts), how (options), and the way there."""
