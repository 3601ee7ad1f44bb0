"""What people type in."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.db.models import Q

from .models import Airport


def find_airport(text: str) -> Airport | None:
    """The airport that is meant by `Paris (CDG)`, `CDG` or `Paris`: by code first, then by city."""
    code = text.rpartition("(")[2].rstrip(") ").upper() or text.upper()
    airports = Airport.objects.exclude(iata="")
    return airports.filter(Q(iata=code) | Q(code=code)).first() or airports.filter(city__iexact=text.strip()).first()


class SearchForm(forms.Form):
    origin = forms.CharField(required=False, max_length=200)
    destination = forms.CharField(required=False, max_length=200)
    date = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    sort = forms.ChoiceField(required=False, choices=(("time", "Departure"), ("price", "Price")))

    def _airport(self, name: str) -> Airport | None:
        text = self.cleaned_data[name].strip()
        if not text:
            return None
        airport = find_airport(text)
        if airport is None:
            raise forms.ValidationError(f"No airport called {text}. Try a city or a code like CDG.")
        return airport

    def clean_origin(self) -> Airport | None:
        return self._airport("origin")

    def clean_destination(self) -> Airport | None:
        return self._airport("destination")


class BookingForm(forms.Form):
    passengers = forms.IntegerField(min_value=1, max_value=9, initial=1)


class SignUpForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("username",)
