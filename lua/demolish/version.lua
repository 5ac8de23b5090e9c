--- The version of the plugin; the program must agree in major and minor.
return '0.1.0'
