"""Addresses of the pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("flights/", views.search, name="search"),
    path("flights/<int:pk>/", views.flight, name="flight"),
    path("airports/suggest/", views.suggest, name="suggest"),
    path("airports/<str:code>/", views.airport, name="airport"),
    path("countries/", views.countries, name="countries"),
    path("countries/<str:code>/", views.country, name="country"),
    path("news/", views.news, name="news"),
    path("news/<slug:slug>/", views.article, name="article"),
    path("bookings/", views.bookings, name="bookings"),
    path("bookings/<int:pk>/cancel/", views.cancel, name="cancel"),
    path("sign-in/", LoginView.as_view(template_name="registration/sign_in.html"), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("healthz", views.healthz, name="healthz"),
]
