"""Make the models that em_inspect measures: recipe -> dataset -> checkpoint -> model spec."""
